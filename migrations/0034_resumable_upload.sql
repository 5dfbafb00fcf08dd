-- Uploads that go on where they broke off (docs/uploads.md).

-- An upload that has begun. `id`: by which its user goes on with it. `origin`, `media_id`: the name that the file gets;
-- `fills`: that was given before. `blurhash`: the client wants one told. `announced`: how many bytes it is to have,
-- once the client has said so. `received`: how many have come. `parts`: in how many parts. `turn`: raised by
-- each request that goes on with it, so that what earlier ones still bring is refused. `done`: the file is there.
-- `touched`: when something last came, milliseconds since 1970.
CREATE TABLE media_upload (
    id TEXT PRIMARY KEY,
    owner BIGINT NOT NULL,
    origin TEXT NOT NULL,
    media_id TEXT NOT NULL,
    fills BIGINT NOT NULL,
    content_type TEXT,
    name TEXT,
    blurhash BIGINT NOT NULL,
    announced BIGINT,
    received BIGINT NOT NULL,
    parts BIGINT NOT NULL,
    turn BIGINT NOT NULL,
    done BIGINT NOT NULL,
    touched BIGINT NOT NULL
);
CREATE INDEX media_upload_owner ON media_upload (owner) WHERE done = 0;
CREATE INDEX media_upload_touched ON media_upload (touched);

-- What has come of it, in order. `start`: at which byte of the file. `blob`: where the bytes are.
CREATE TABLE media_upload_part (
    upload TEXT NOT NULL,
    start BIGINT NOT NULL,
    blob TEXT NOT NULL,
    PRIMARY KEY (upload, start)
);
CREATE INDEX media_upload_part_blob ON media_upload_part (blob);
