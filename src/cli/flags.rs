//! Defines the flags that several commands share.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::config::{ConfigSources, Overrides};

/// Names the configuration, and the folders that win over it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct ConfigFlag {
    /// Configuration file [default: ./pullthrough.yaml, else /etc/pullthrough/config.yaml, else none]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Folder of the cache [default: cache]
    #[arg(long, value_name = "DIR", global = true)]
    cache_dir: Option<String>,
    /// Folder of the certificate authority [default: ca]
    #[arg(long, value_name = "DIR", global = true)]
    ca_dir: Option<String>,
}

/// Chooses between text and JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct Print {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints `value` as indented JSON.
pub(super) fn print_json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// The flags of `serve`: the most frequent settings. They override the environment and the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct ServeFlags {
    #[command(flatten)]
    config: ConfigFlag,
    /// Address of the proxy listener [default: [::]:3128]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Address of the metrics listener [default: 127.0.0.1:9128]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Address of the registry mirror's listener [default: none]
    #[arg(long, value_name = "ADDR")]
    mirror: Option<String>,
}

impl ConfigFlag {
    /// The sources of this process's configuration.
    #[must_use]
    pub fn sources(&self) -> ConfigSources {
        ConfigSources::of_process(self.config.clone(), self.overrides())
    }

    fn overrides(&self) -> Overrides {
        Overrides { cache_dir: self.cache_dir.clone(), ca_dir: self.ca_dir.clone(), ..Overrides::default() }
    }
}

impl ServeFlags {
    /// The sources of this process's configuration, overridden by these flags.
    #[must_use]
    pub fn sources(&self) -> ConfigSources {
        let (listen, admin, mirror) = (self.listen.clone(), self.admin.clone(), self.mirror.clone());
        let overrides = Overrides { listen, admin, mirror, ..self.config.overrides() };
        ConfigSources::of_process(self.config.config.clone(), overrides)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        flags: ServeFlags,
    }

    #[test]
    fn every_flag_reaches_the_configuration() {
        let arguments = "x --config f --listen a --admin b --mirror e --cache-dir c --ca-dir d".split(' ');
        let sources = Command::parse_from(arguments).flags.sources();
        assert_eq!(sources.config, Some("f".into()));
        let some = |text: &str| Some(text.to_owned());
        let expected = Overrides {
            listen: some("a"),
            admin: some("b"),
            mirror: some("e"),
            cache_dir: some("c"),
            ca_dir: some("d"),
        };
        assert_eq!(sources.overrides, expected);
    }
}
