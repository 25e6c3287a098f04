//! Many clients at once on a blob that is not there yet.

use std::time::Duration;

use crate::client::{Curl, Way};
use crate::lab::{Lab, Shape, digest, eventually};
use crate::proxy::Proxy;

#[test]
fn sixty_four_clients_on_a_cold_blob_make_one_download_and_all_see_it_grow() {
    let lab = Lab::new();
    let image = lab.publish(&["quay.io/lab/app:1"], Shape::Single, 1, 6_000_000);
    let proxy = Proxy::start(&lab);
    let before = lab.quay.blob_fetches().len();
    lab.quay.site.pace(100_000);
    let home = lab.folder("crowd");
    let url = format!("https://quay.io/v2/lab/app/blobs/{}", image.large);
    let way = Way { trust: proxy.ca_file(), ..proxy.way() }; // one root is read sooner than a hundred
    let mut crowd: Vec<_> = (0..64).map(|_| Curl::new(&home, &way, &url)).collect();
    eventually("each has its first byte", Duration::from_secs(30), || crowd.iter().all(|curl| curl.received() > 0));
    for curl in &crowd {
        assert!(curl.received() < 6_000_000, "the first byte came with the last");
    }
    lab.quay.site.pace(0);
    for curl in &mut crowd {
        assert_eq!(curl.body(Duration::from_secs(60)).map(|body| digest(&body)), Ok(image.large.clone()));
    }
    assert_eq!(lab.quay.blob_fetches().len(), before + 1);
}
