-- A room's members in the order of their coming: the first of them stand for its name (storage/src/members.rs).
CREATE INDEX membership_since ON membership (room, membership, since, event);
