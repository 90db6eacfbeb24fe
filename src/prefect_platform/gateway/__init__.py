"""The server-side token verifier (ASGI, behind Traefik's ForwardAuth) and the command that issues tokens.

This package runs alone, from the rendered bundle, under the runtime's Python: it imports nothing else of
prefect_platform.

    errors    what may go wrong, and the exit code        settings  the environment, validated
    keys      the signing keys, newest first              tokens    signed claims: mint and verify (pure)
    database  URL -> engine                               store     the only SQL, on schema's tables
    registry  what this process knows of issued tokens    verifier  token -> identity, cached
    reading   what a token of scope prefect:read may ask (pure)
    ending    tokens in use that end soon, for the platform's status
    door      one request's credentials and origin (pure) pages     the few HTML pages
    cookies   which are ours, and what is left of a request's without them
    sso       a person's identity as the single sign-on tells it, and its groups (pure)
    app       routes                                      serve     the process
    cli       the command line                            commands  what it does
"""
