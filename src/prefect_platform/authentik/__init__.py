"""Authentik: the single sign-on that Traefik asks about people.

    client     one request to its API, and what the answer means        apps       a proxy application: observed → changes → applied
    bootstrap  a new installation: administrators, our own account      outpost    does the data plane know the application?
    standin    an Authentik for lab and tests: the API                  standin_pages  … and its data plane, with a login form

Facts are those of Authentik 2026.8.
"""
