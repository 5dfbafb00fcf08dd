-- How many invites from outside wait for a user's answer (storage/src/invites.rs).
CREATE INDEX invite_pending ON invite (user_no, sender) WHERE gone = 0;
