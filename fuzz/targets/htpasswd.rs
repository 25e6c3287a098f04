//! An htpasswd file.

use crate::proxy::Users;

/// Users are those of its lines, each once, with a hash that bcrypt takes; a flaw has a line of the file and nothing of
/// a hash.
pub fn htpasswd(data: &[u8]) {
    let rows: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    match Users::parse(data) {
        Ok(users) => {
            let text = std::str::from_utf8(data).expect("a file of users is text");
            let named = text.lines().filter(|row| !row.starts_with('#')).filter_map(|row| row.split_once(':'));
            let mut found = 0;
            for (user, hash) in named {
                assert!(users.contains(user), "{user:?}");
                let hash = hash.trim_end();
                assert!(hash.len() == 60 && hash.starts_with("$2"), "{hash:?}");
                assert!((4..=16).contains(&hash[4..6].parse::<u32>().unwrap()), "{hash:?}");
                found += 1;
            }
            assert_eq!((users.count(), users.count() > 0), (found, true));
        }
        Err(flaws) => {
            assert!(!flaws.is_empty());
            for flaw in flaws {
                assert!((1..=rows.len()).contains(&flaw.line), "{flaw}");
                let row = String::from_utf8_lossy(rows[flaw.line - 1]);
                let (user, hash) = row.split_once(':').unwrap_or((&row, ""));
                let is_told = flaw.text.contains(hash.trim_end()) && !user.contains(hash.trim_end());
                assert!(!flaw.text.contains('\n'), "{flaw:?}");
                assert!(!hash.starts_with("$2") || hash.len() < 20 || !is_told, "{flaw}");
            }
        }
    }
}
