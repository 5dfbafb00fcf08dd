"""A bridge of the mautrix family to a network where everybody says what they were told."""
