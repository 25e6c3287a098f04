//! A request as it goes upstream, read by a strict server.

/// One request, all of it.
pub(crate) struct Sent {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Vec<u8>,
}

impl Sent {
    /// Reads bytes that are one request, or as much of it as was sent; `None` for less than a head. Whatever a server
    /// could read in another way is a panic: a line that ends in another way, two lengths, a length and chunks, bytes
    /// behind the end.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let (head, body) = (String::from_utf8_lossy(&bytes[..end]), &bytes[end + 4..]);
        let mut lines = head.split("\r\n");
        let words: Vec<&str> = lines.next().unwrap().split(' ').collect();
        let [method, target, "HTTP/1.1"] = words[..] else { panic!("{words:?}") };
        assert!(target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic()), "{target:?}");
        let fields: Vec<(String, &str)> = lines.map(field).collect();
        let all =
            |name: &str| fields.iter().filter(|(found, _)| found == name).map(|(_, value)| *value).collect::<Vec<_>>();
        assert_eq!(all("host"), ["quay.io"]);
        for name in ["connection", "upgrade", "te", "trailer", "keep-alive", "proxy-authorization", "proxy-connection"]
        {
            assert!(all(name).is_empty(), "{name} is for one connection");
        }
        let body = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
            ([], []) => {
                assert!(body.is_empty(), "bytes that nothing announces: {body:?}");
                Vec::new()
            }
            ([length], []) => {
                let length: usize = length.parse().expect("a length is a number");
                assert!(body.len() <= length, "{} bytes of {length}", body.len());
                body.to_vec()
            }
            ([], ["chunked"]) => chunks(body),
            framing => panic!("framed in two ways: {framing:?}"),
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Some(Self { method: method.into(), path: path.into(), query: query.into(), body })
    }
}

fn field(line: &str) -> (String, &str) {
    assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
    let (name, value) = line.split_once(':').expect("a field has a colon");
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    assert!(!name.is_empty() && name.chars().all(is_token), "{line:?}");
    (name.to_ascii_lowercase(), value.trim())
}

/// What is in chunks, of which the last may not have come.
fn chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while !rest.is_empty() {
        let end = rest.windows(2).position(|window| window == b"\r\n").expect("a chunk's length has an end");
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).expect("a chunk's length");
        rest = &rest[end + 2..];
        if length == 0 {
            assert_eq!(rest, b"\r\n", "nothing follows the last chunk");
            break;
        }
        body.extend_from_slice(&rest[..length]);
        rest = rest[length..].strip_prefix(b"\r\n").expect("a chunk has an end");
    }
    body
}
