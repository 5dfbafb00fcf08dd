//! Server-to-server: discovery, keys, inbound and outbound
