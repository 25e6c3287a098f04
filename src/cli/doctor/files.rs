//! Reads what the doctor needs of clients' files in TOML: tables, and their keys that hold text.
//!
//! It is no parser: what it does not understand it passes over, since the client itself will complain of that.

/// A table, with its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// The name, without brackets and quotes: `host.https://m`, `registry.mirror`.
    pub(super) name: String,
    keys: Vec<(String, Vec<String>)>,
    flags: Vec<String>,
}

impl Table {
    /// The first text of a key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.texts(key).first().map(String::as_str)
    }

    /// All texts of a key.
    pub(super) fn texts(&self, key: &str) -> &[String] {
        self.keys.iter().find(|(name, _)| name == key).map_or(&[], |(_, values)| values)
    }

    /// Whether the key is `true`.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.flags.iter().any(|name| name == key)
    }
}

/// The tables of a file in their order; the first has what stands before them.
pub(super) fn tables(text: &str) -> Vec<Table> {
    let mut all = vec![Table::default()];
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if line.starts_with('[') && !line.contains('=') || line.starts_with("[host.") || line.starts_with("[registry.")
        {
            let name = line.split('#').next().unwrap_or(line);
            let name = name.trim().trim_matches(['[', ']']).replace(['"', '\''], "");
            all.push(Table { name, ..Table::default() });
            continue;
        }
        let (Some((key, value)), Some(table)) = (line.split_once('='), all.last_mut()) else { continue };
        let (key, value) = (key.trim().to_owned(), value.trim());
        let quote = if value.contains('"') { '"' } else { '\'' };
        let texts: Vec<String> = value.split(quote).skip(1).step_by(2).map(str::to_owned).collect();
        if value.starts_with("true") {
            table.flags.push(key);
        } else {
            table.keys.push((key, texts));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_their_texts_are_read() {
        let text = "server = \"https://a\"\n# [x]\n[host.\"http://m:5000\"]\n  ca = ['/a', '/b']\n  override_path = true\n\
                    [[registry.mirror]] # first\nlocation=\"m/quay.io\"\n";
        let all = tables(text);
        let names: Vec<&str> = all.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["", "host.http://m:5000", "registry.mirror"]);
        assert_eq!(all[0].text("server"), Some("https://a"));
        assert_eq!((all[1].texts("ca"), all[1].is_set("override_path")), (["/a".into(), "/b".into()].as_slice(), true));
        assert_eq!(all[2].text("location"), Some("m/quay.io"));
    }
}
