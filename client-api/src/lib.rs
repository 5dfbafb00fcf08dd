//! What reaches users: client endpoints, sync, WebSocket
