-- Previews of links (client-server, "GET /_matrix/client/v1/media/preview_url").

-- What was told of a link lately. `key`: a hash of the link and of the language that was asked for, as links may be
-- longer than an index takes. `preview`: the answer's JSON. `expires`: until when it is told, milliseconds since 1970.
CREATE TABLE url_preview (
    key TEXT PRIMARY KEY,
    preview TEXT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX url_preview_expires ON url_preview (expires);

-- Pictures that were fetched for previews, by their ids on this server. `until`: when they are deleted, a while after the
-- previews that name them have expired, as clients keep those.
CREATE TABLE url_preview_picture (
    media_id TEXT PRIMARY KEY,
    until BIGINT NOT NULL
);
CREATE INDEX url_preview_picture_until ON url_preview_picture (until);
