-- Who wants to say what has reached their devices (docs/delivery.md): they are few among all account data.
CREATE INDEX account_data_delivery ON account_data (user_no) WHERE kind = 'org.rhizome.delivery';
