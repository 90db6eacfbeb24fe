"""Authentik: the single sign-on that Traefik queries about people.

    client       one request to its API, and what the answer means
    application  what a proxy application consists of            plan  the changes that are left to do
    apps         observe, plan, apply                            bootstrap  a new installation: administrators, our own account

Facts are those of Authentik 2026.8.
"""
