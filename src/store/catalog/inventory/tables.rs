//! Defines the temporary tables of a survey, and the statements that fill them.

/// What manifests list (`edges` between `nodes`), and the images that people name (`roots`).
pub(crate) const TABLES: &str = "
PRAGMA temp.cache_size = -16384;
CREATE TEMP TABLE nodes (
    id       INTEGER PRIMARY KEY,
    digest   BLOB NOT NULL UNIQUE,
    manifest INTEGER NOT NULL DEFAULT 0,
    is_index INTEGER NOT NULL DEFAULT 0,
    is_read  INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX temp.unread ON nodes (id) WHERE manifest = 1 AND is_read = 0;
CREATE TEMP TABLE edges (parent INTEGER, child INTEGER, PRIMARY KEY (parent, child)) WITHOUT ROWID;
CREATE INDEX temp.parents ON edges (child);
CREATE TEMP TABLE roots (place INTEGER, tag TEXT, node INTEGER);
CREATE INDEX temp.roots_node ON roots (node, place);
CREATE INDEX temp.roots_place ON roots (place, tag);
CREATE TEMP TABLE shared (node INTEGER PRIMARY KEY);
CREATE TEMP TABLE hit_tags (place INTEGER, tag TEXT, PRIMARY KEY (place, tag)) WITHOUT ROWID;
CREATE TEMP TABLE hit (place INTEGER, node INTEGER, PRIMARY KEY (place, node)) WITHOUT ROWID;
CREATE TEMP TABLE gone (place INTEGER, node INTEGER, PRIMARY KEY (place, node)) WITHOUT ROWID;
CREATE TEMP TABLE kept (place INTEGER, node INTEGER, PRIMARY KEY (place, node)) WITHOUT ROWID;
CREATE INDEX temp.kept_node ON kept (node);
CREATE TEMP TABLE doomed (node INTEGER PRIMARY KEY);
CREATE TEMP TABLE pinned (node INTEGER PRIMARY KEY, free INTEGER NOT NULL);
CREATE TEMP TABLE held (node INTEGER, registry TEXT, PRIMARY KEY (node, registry)) WITHOUT ROWID;
";

/// The images: the digests of tags, and the manifests of a place that nothing else there lists.
pub(crate) const ROOTS: &str = "
DELETE FROM roots;
INSERT INTO roots SELECT DISTINCT place, tag, nodes.id FROM tags JOIN nodes ON nodes.digest = tags.digest;
INSERT INTO roots
    SELECT DISTINCT links.place, NULL, nodes.id FROM links JOIN nodes ON nodes.digest = links.digest
    WHERE content = 0
    AND NOT EXISTS (SELECT 1 FROM roots WHERE roots.node = nodes.id AND roots.place = links.place)
    AND NOT EXISTS (SELECT 1 FROM edges JOIN nodes AS above ON above.id = parent
        JOIN links AS other ON other.digest = above.digest AND other.place = links.place AND other.content = 0
        WHERE child = nodes.id)
    AND NOT EXISTS (SELECT 1 FROM edges JOIN roots ON roots.node = parent
        WHERE child = nodes.id AND roots.place = links.place);
";

/// The content that more than one image name needs.
pub(crate) const SHARED: &str = "
DELETE FROM shared;
WITH RECURSIVE need(root, node) AS (SELECT DISTINCT node, node FROM roots
    UNION SELECT root, child FROM need JOIN edges ON parent = node)
INSERT INTO shared SELECT need.node FROM need
    JOIN (SELECT node AS root, count(*) AS names FROM roots GROUP BY node) AS named ON named.root = need.root
    GROUP BY need.node HAVING sum(names) > 1;
";

/// The content of each registry: by a link, or because one of its images needs it.
pub(crate) const HELD: &str = "
DELETE FROM held;
INSERT OR IGNORE INTO held SELECT nodes.id, registry FROM links JOIN places ON places.id = place
    JOIN nodes ON nodes.digest = links.digest;
WITH RECURSIVE need(node, registry) AS (SELECT node, registry FROM roots JOIN places ON places.id = place
    UNION SELECT child, registry FROM need JOIN edges ON parent = node)
INSERT OR IGNORE INTO held SELECT node, registry FROM need;
";

/// From the content to be removed (`hit`) and the pinned content to the content that can be removed (`doomed`).
pub(crate) const DOOM: &str = "
WITH RECURSIVE need(place, node) AS (SELECT place, node FROM hit
    UNION SELECT place, child FROM need JOIN edges ON parent = node)
INSERT INTO gone SELECT place, node FROM need;
DELETE FROM pinned WHERE free AND node IN (SELECT node FROM gone);
WITH RECURSIVE need(place, node) AS (
    SELECT tags.place, nodes.id FROM tags JOIN nodes ON nodes.digest = tags.digest
        WHERE NOT EXISTS (SELECT 1 FROM hit_tags WHERE hit_tags.place = tags.place AND hit_tags.tag = tags.tag)
    UNION SELECT links.place, nodes.id FROM links JOIN nodes ON nodes.digest = links.digest
        WHERE content = 0
        AND NOT EXISTS (SELECT 1 FROM gone WHERE gone.place = links.place AND gone.node = nodes.id)
    UNION SELECT 0, node FROM pinned
    UNION SELECT place, child FROM need JOIN edges ON parent = node)
INSERT INTO kept SELECT place, node FROM need;
";

/// The content that nothing needs any more, neither an image that stays nor a repository with a link to it.
pub(crate) const DOOMED: &str = "
INSERT INTO doomed SELECT DISTINCT nodes.id FROM gone JOIN nodes ON nodes.id = gone.node
    JOIN blobs ON blobs.digest = nodes.digest
    WHERE NOT EXISTS (SELECT 1 FROM kept WHERE kept.node = nodes.id)
    AND NOT EXISTS (SELECT 1 FROM links WHERE links.digest = nodes.digest
        AND NOT EXISTS (SELECT 1 FROM gone AS also WHERE also.place = links.place AND also.node = nodes.id));
";

/// The content of a scope: its images with what they need, and everything else that its repositories link.
pub(crate) const CONTENT: &str = "
INSERT INTO content WITH RECURSIVE need(node) AS (
    SELECT node FROM roots JOIN places ON places.id = place JOIN nodes ON nodes.id = node
        WHERE (?1 IS NULL OR registry = ?1) AND (?2 IS NULL OR repository = ?2)
        AND (?3 IS NULL OR tag = ?3) AND (?4 IS NULL OR nodes.digest = ?4)
    UNION SELECT nodes.id FROM links JOIN places ON places.id = place JOIN nodes ON nodes.digest = links.digest
        WHERE ?3 IS NULL AND (?1 IS NULL OR registry = ?1) AND (?2 IS NULL OR repository = ?2)
        AND (?4 IS NULL OR nodes.digest = ?4)
    UNION SELECT id FROM nodes WHERE ?1 IS NULL AND digest = ?4
    UNION SELECT child FROM need JOIN edges ON parent = node)
SELECT node FROM need";
