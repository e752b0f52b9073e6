"""The part of this project that depends on how uvicorn is made inside: its protocols and its
server, with bounds on what a connection may hold and how long it may take.

uvicorn documents its options, not its classes. pyproject.toml therefore bounds its version, and
tests/server/net/test_uvicorn_private.py fails when one of the names below has changed. No file of
another folder touches them, but for the two names that lab/listening/transport.py adds.

`WebSocketsSansIOProtocol`, which carries a WebSocket (websocket.py):
- Methods that are replaced here, and that uvicorn calls: `connection_made`, `connection_lost`,
  `data_received`, `handle_connect`, `handle_bytes`, `handle_text`, `handle_cont`, `handle_ping`,
  `handle_pong`, `handle_parser_exception`, `send_receive_event_to_app`, `keepalive_timeout`,
  `run_asgi`, `send`, `receive`.
- Method that is called here: `stop_keepalive`.
- State that is read: `transport`, `loop`, `scope`, `client`, `handshake_initiated`,
  `handshake_complete`, `disconnected`, `curr_msg_data_type`, `conn` (websockets' `ServerProtocol`,
  which is public: `data_to_send`, `parser_exc`, `close_sent`, `handshake_exc`).
- State that is written too: `queue` (events for the application), `frames` (fragments of a message
  that is not complete), `writable` (an event), `close_sent`, `close_timeout`, `close_timer`,
  `read_paused`.

`HttpToolsProtocol`, which carries HTTP until a WebSocket takes over (http.py):
- Methods that are replaced: `connection_made`, `connection_lost`, `data_received`,
  `handle_websocket_upgrade`, `send_400_response`, `on_message_begin`, `on_url`, `on_header`,
  `on_headers_complete`, `on_message_complete`, `on_response_complete`.
- State: `transport`, `loop`, `connections` (of the whole server), `parser`, `client`, `scope`.
- lab/listening/transport.py extends `PatientHttp`, and uses `on_body` of it as well.

`Server` (server.py):
- Methods that are replaced: `startup`, `shutdown`, `capture_signals`, `handle_exit`.
- State: `config`, `started`, `should_exit`, `server_state.connections`, `lifespan.state`,
  `_captured_signals`.

What needs nothing of uvicorn is elsewhere: who comes in when, and the counts, are in door.py; where
the frames of a stream begin and end is in core/websocket_frames.py.
"""
