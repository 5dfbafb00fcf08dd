-- Who follows a thread: push rules ask it for all users of a room at once (MSC4306).
CREATE INDEX thread_subscription_thread ON thread_subscription (room, thread) WHERE subscribed = 1;
