"""An Authentik for lab and tests, where the real one cannot be had: its API and its data plane, as far as the platform uses them.

    state  the objects and their rules (pure)        api    the REST API, with its awkward semantics
    pages  outpost, login form, logout               store  where the state lies: memory, or PostgreSQL
    main   `ak server`, `ak worker`, `ak healthcheck`

Contract-true: tests hold every answer against the models of the official client. Of the login it has what a person sees (a form, a
refusal, a way out), not Authentik's flows. It imports nothing of the platform: in the lab's image it stands alone.
"""
