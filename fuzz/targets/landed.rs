//! The map beside a staged file: what is read back is sound, and is what would be written.

use crc_fast::crc32_iscsi;

use super::content::partial::Landed;

/// The bytes are a file, and the line in a file whose checksum is right: a broken disk is caught by that, a foreign
/// program is not.
pub fn landed(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let signed = format!("{text}\n{:08x}\n", crc32_iscsi(text.as_bytes()));
    for file in [text, &signed] {
        let Some(landed) = Landed::decode(file) else { continue };
        let (mut end, mut bytes) = (0, 0_u64);
        for (at, (from, to)) in landed.extents.iter().enumerate() {
            assert!(from < to && (at == 0 || end < *from), "{landed:?}");
            end = *to;
            bytes += to - from;
        }
        assert_eq!((landed.end(), landed.len()), (end, bytes));
        assert!(landed.total.is_none_or(|total| end <= total), "{landed:?}");
        assert_eq!(Landed::decode(&landed.encode()).as_ref(), Some(&landed));
        let same = Landed::new(&landed.origin, &landed.extents, landed.total, landed.validator.as_deref());
        assert_eq!(same, landed);
    }
}
