-- Finding people (client-server API, "User Directory"; storage/src/people).

-- What a user is called: a user of this server as their profile says (n = 0), others by each name with a picture that
-- they have in rooms (n from 1). `seen`: 1 if they are joined by it to a room that anybody may look into, else what
-- `hidden` says: 2 of users of this server, 0 of others and of guests.
CREATE TABLE people_name (
    user_no BIGINT NOT NULL,
    n BIGINT NOT NULL,
    name TEXT,
    avatar TEXT,
    hidden BIGINT NOT NULL,
    seen BIGINT NOT NULL,
    PRIMARY KEY (user_no, n)
);

-- The words by which such a name is found, in the order of their bytes. `seen` as there.
CREATE TABLE people_word (
    user_no BIGINT NOT NULL,
    n BIGINT NOT NULL,
SQLITE:    word TEXT NOT NULL,
POSTGRES:    word TEXT COLLATE "C" NOT NULL,
    seen BIGINT NOT NULL,
    PRIMARY KEY (user_no, n, word)
);
CREATE INDEX people_word_word ON people_word (seen, word, user_no, n);

-- By which name a user is joined to a room, as which event says.
CREATE TABLE people_member (
    user_no BIGINT NOT NULL,
    room BIGINT NOT NULL,
    n BIGINT NOT NULL,
    event BIGINT NOT NULL,
    PRIMARY KEY (user_no, room)
);
CREATE INDEX people_member_room ON people_member (room, user_no, n);

-- Whether anybody may look into a room (its join rule is public, or its history world readable): 0, 1; 2 of one that we
-- aren't in. 10 more: its members are about to be taken.
CREATE TABLE people_room (room ROW_ID PRIMARY KEY, open BIGINT NOT NULL);

-- Up to which user those are in it who were there before it. `begun`: from which position on the log is followed, -1
-- while nobody has begun.
CREATE TABLE people_fill (id ROW_ID PRIMARY KEY, begun BIGINT NOT NULL, upto BIGINT NOT NULL, done BIGINT NOT NULL);
INSERT INTO people_fill (id, begun, upto, done) VALUES (1, -1, 0, 0);
