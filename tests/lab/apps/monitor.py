#!/usr/bin/env python3
"""Stands in for Netdata: /api/v1/info on port 19999."""

from web import Handler, serve


class Monitor(Handler):
    def get(self, path):
        return (200, {"version": "stand-in"}) if path == "/api/v1/info" else (200, "<h1>Monitoring</h1>\n")


serve(Monitor, 19999)
