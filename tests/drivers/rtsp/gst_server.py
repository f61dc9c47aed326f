"""An RTSP server for tests, by GStreamer: run by the system's Python, which has Debian's gir1.2-gst-rtsp-server-1.0.

`python3 gst_server.py PORT LAUNCH [USER PASSWORD]` serves the pipeline at `/live` and prints one JSON line.
"""

import json
import sys


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(arguments[0])
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_launch(arguments[1])
    factory.set_shared(True)
    if len(arguments) > 2:
        auth = GstRtspServer.RTSPAuth.new()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "user")
        basic = GstRtspServer.RTSPAuth.make_basic(arguments[2], arguments[3])
        auth.add_basic(basic, token)
        server.set_auth(auth)
        factory.add_role_from_structure(
            Gst.Structure.new_from_string("user, media.factory.access=true, media.factory.construct=true")
        )
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    sys.stdout.write(json.dumps({"port": server.get_bound_port()}) + "\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(sys.argv[1:])
