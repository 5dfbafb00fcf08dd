-- Media (client-server, "Content repository"): what the files are, and where their bytes lie.

-- The bytes of files, each content once. `key`: the name in the store, never given twice. `sha256`: of the plain bytes,
-- hexadecimal. `size`: of the plain bytes. `store`: in which of the configured stores. `seal_key`, `salt`: by which of
-- the configured keys it is encrypted, and with what salt; NULL: not at all. `touched`: when something last referred to
-- it anew, milliseconds since 1970: what nothing refers to goes a while after that. `doomed`: it is being deleted and
-- nothing may refer to it any more.
CREATE TABLE media_blob (
    key TEXT PRIMARY KEY,
    sha256 TEXT NOT NULL,
    size BIGINT NOT NULL,
    store TEXT NOT NULL,
    seal_key TEXT,
    salt TEXT,
    touched BIGINT NOT NULL,
    doomed BIGINT NOT NULL
);
CREATE UNIQUE INDEX media_blob_sha256 ON media_blob (sha256) WHERE doomed = 0;
CREATE INDEX media_blob_touched ON media_blob (touched) WHERE doomed = 0;
CREATE INDEX media_blob_doomed ON media_blob (key) WHERE doomed = 1;
CREATE INDEX media_blob_store ON media_blob (store, key);

-- A file under its name. `remote`: kept for our users, of another server. `owner`: whose upload, by number. `blob`: NULL
-- until there is content. `pending`: until when there may come some, milliseconds since 1970; NULL: it has come.
-- `quarantined`: nobody gets it. `protected`: it can't be quarantined and isn't deleted by age.
CREATE TABLE media (
    origin TEXT NOT NULL,
    media_id TEXT NOT NULL,
    remote BIGINT NOT NULL,
    owner BIGINT,
    content_type TEXT,
    name TEXT,
    blob TEXT,
    size BIGINT NOT NULL,
    created BIGINT NOT NULL,
    accessed BIGINT NOT NULL,
    pending BIGINT,
    quarantined BIGINT NOT NULL,
    protected BIGINT NOT NULL,
    PRIMARY KEY (origin, media_id)
);
CREATE INDEX media_blob_of ON media (blob) WHERE blob IS NOT NULL;
CREATE INDEX media_owner ON media (owner, created) WHERE owner IS NOT NULL;
CREATE INDEX media_owner_pending ON media (owner, pending) WHERE pending IS NOT NULL;
CREATE INDEX media_pending ON media (pending) WHERE pending IS NOT NULL;
CREATE INDEX media_remote ON media (accessed) WHERE remote = 1;

-- Pictures in other sizes. `source`: the blob that they are made of, so that each content has them once.
-- `format`: what was asked for. `content_type`: what it became.
CREATE TABLE media_thumbnail (
    source TEXT NOT NULL,
    width BIGINT NOT NULL,
    height BIGINT NOT NULL,
    method TEXT NOT NULL,
    animated BIGINT NOT NULL,
    format TEXT NOT NULL,
    content_type TEXT NOT NULL,
    blob TEXT NOT NULL,
    size BIGINT NOT NULL,
    PRIMARY KEY (source, width, height, method, animated, format)
);
CREATE INDEX media_thumbnail_blob ON media_thumbnail (blob);

-- Which stores are this database's. `id`: what the store's own `store-id` says.
CREATE TABLE media_store (
    name TEXT PRIMARY KEY,
    id TEXT NOT NULL
);
