//! Finds how much memory this process may use: that of the machine, or the limit of its control group.

use std::fs;
use std::path::Path;

/// The limit in bytes: the least of the machine's memory and the limits of the control group and of those above it
/// (v2 `memory.max`, v1 `memory.limit_in_bytes`).
#[must_use]
pub fn memory_limit() -> u64 {
    let limit = group_limit(Path::new("/"));
    limit.unwrap_or(u64::MAX).min(machine())
}

fn machine() -> u64 {
    let known = rustix::system::sysinfo();
    let bytes = u128::from(known.totalram) * u128::from(known.mem_unit); // the field's width differs between machines
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The limit of the control groups, read below `root`.
fn group_limit(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    groups.lines().filter_map(|line| limit_of(root, line)).min()
}

/// A line is `number:controllers:path`; no controllers means v2 (cgroups(7)).
fn limit_of(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let (mount, file) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|one| one == "memory") => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return None,
    };
    let mount = root.join(mount);
    // In a container the path may be that of the host, which does not exist here: its own group is then the mount itself.
    let group = mount.join(path.trim_start_matches('/'));
    group
        .ancestors()
        .take_while(|folder| folder.starts_with(&mount))
        .filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_group_counts() {
        let table: [(&str, &[(&str, &str)], Option<u64>); 6] = [
            ("0::/a/b\n", &[("a/b/memory.max", "max\n"), ("a/memory.max", "1000\n")], Some(1000)),
            ("0::/a/b\n", &[("a/b/memory.max", "500\n"), ("a/memory.max", "1000\n")], Some(500)),
            ("0::/elsewhere\n", &[("memory.max", "700\n")], Some(700)),
            ("0::/\n", &[("memory.max", "max\n")], None),
            ("5:cpu,memory:/a\n4:cpu:/b\n0::/\n", &[("memory/a/memory.limit_in_bytes", "900\n")], Some(900)),
            ("", &[], None),
        ];
        for (groups, files, expected) in table {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join("proc/self")).unwrap();
            fs::write(root.path().join("proc/self/cgroup"), groups).unwrap();
            for (file, text) in files {
                let file = root.path().join("sys/fs/cgroup").join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            assert_eq!(group_limit(root.path()), expected, "{groups}");
        }
        assert!(memory_limit() > 1 << 20 && memory_limit() < u64::MAX);
    }
}
