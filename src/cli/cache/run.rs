//! Carries out a command: the server that has locked the cache directory does it, else this process itself.

use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::admin::control::ControlClient;
use crate::cache::{Event, Inventory, Order};
use crate::store::{Config, Error, Store};

/// Carries `order` out on the cache of `config`.
pub(crate) fn carry_out(
    config: &Config,
    order: &Order,
    tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    if ask_server(config, order, tell)? { Ok(()) } else { directly(config, order, tell) }
}

/// Has the server that has locked the folder carry `order` out; false if there is none.
pub(crate) fn ask_server(
    config: &Config,
    order: &Order,
    tell: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        match ControlClient::connect(&config.dir).await? {
            Some(client) => client.run(order, tell).await.map(|()| true),
            None => Ok(false),
        }
    });
    Ok(served?)
}

fn directly(config: &Config, order: &Order, tell: &mut dyn FnMut(Event) -> ControlFlow<()>) -> anyhow::Result<()> {
    must_be_ours(&config.dir)?;
    let store = match Store::open(config) {
        Err(Error::Held { folder }) => bail!(
            "another pullthrough has locked the cache directory {} but does not answer on its control socket: it is starting, \
             stopping or an earlier version; try again, or stop it",
            folder.display()
        ),
        opened => opened.context("cannot open the cache")?,
    };
    let inventory = Inventory::new(store.clone());
    let done = inventory.restore_pins().and_then(|()| inventory.run(order, tell));
    store.close();
    Ok(done?)
}

/// Refuses a folder that is not a cache of this user: a command never creates a cache, and never leaves files that the
/// owner's server could not use.
fn must_be_ours(folder: &Path) -> anyhow::Result<()> {
    match folder.join("oci-layout").metadata() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            bail!(
                "the cache directory {} belongs to another user: run this command as that user or as root",
                folder.display()
            )
        }
        Err(_) => bail!(
            "there is no cache in {}: set cache.dir in the configuration (--config) or PULLTHROUGH_CACHE_DIR to the cache \
             folder",
            folder.display()
        ),
        Ok(metadata) if metadata.uid() != rustix::process::geteuid().as_raw() => bail!(
            "the cache directory {} belongs to user {}, and no server is running: run this command as that user",
            folder.display(),
            metadata.uid()
        ),
        Ok(_) => Ok(()),
    }
}
