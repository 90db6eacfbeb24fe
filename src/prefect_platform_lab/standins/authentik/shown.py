"""How the stand-in's API shows its objects: every key that the official client's models require."""

from __future__ import annotations

import datetime
from typing import Any
from urllib.parse import urlsplit

from .state import Json, application_of, groups_of, is_superuser

_NOW = "2026-11-01T00:00:00Z"
VERSION = {
    "version_current": "2026.8.5",
    "version_latest": "2026.8.5",
    "version_latest_valid": True,
    "build_hash": "",
    "outdated": False,
    "outpost_outdated": False,
}
PROVIDER: Json = {
    "pk": 0,
    "name": "",
    "authentication_flow": None,
    "authorization_flow": "",
    "invalidation_flow": "",
    "property_mappings": [],
    "client_id": "",
    "internal_host": "",
    "external_host": "",
    "internal_host_ssl_validation": True,
    "certificate": None,
    "skip_path_regex": "",
    "basic_auth_enabled": False,
    "basic_auth_password_attribute": "",
    "basic_auth_user_attribute": "",
    "mode": "proxy",
    "intercept_header_auth": True,
    "cookie_domain": "",
    "jwt_federation_sources": [],
    "jwt_federation_providers": [],
    "access_token_validity": "hours=24",
    "refresh_token_validity": "days=30",
}
APPLICATION: Json = {
    "pk": "",
    "name": "",
    "slug": "",
    "provider": None,
    "open_in_new_tab": False,
    "meta_launch_url": "",
    "meta_description": "",
    "meta_publisher": "",
    "policy_engine_mode": "any",
    "group": "",
    "meta_hide": False,
}
BINDING: Json = {
    "pk": "",
    "policy": None,
    "group": None,
    "user": None,
    "target": "",
    "negate": False,
    "enabled": True,
    "order": 0,
    "timeout": 30,
    "failure_result": False,
}


def flow(now: Json, one: Json) -> Json:
    return {
        **one,
        "name": one["slug"],
        "title": one["slug"],
        "background_url": "/static/dist/assets/images/flow_background.jpg",
        "background_themed_urls": None,
        "stages": [],
        "policies": [],
        "cache_count": 0,
        "export_url": f"/api/v3/flows/instances/{one['slug']}/export/",
    }


def provider(now: Json, one: Json) -> Json:
    """`assigned_…`, `redirect_uris` and `outpost_set` are derived."""
    owner = application_of(now, one["pk"])
    callback = f"{one['external_host']}/outpost.goauthentik.io/callback?X-authentik-auth-callback=true"
    return {
        **one,
        "component": "ak-provider-proxy-form",
        "assigned_application_slug": owner and owner["slug"],
        "assigned_application_name": owner and owner["name"],
        "assigned_backchannel_application_slug": None,
        "assigned_backchannel_application_name": None,
        "verbose_name": "Proxy Provider",
        "verbose_name_plural": "Proxy Providers",
        "meta_model_name": "authentik_providers_proxy.proxyprovider",
        "redirect_uris": [{"matching_mode": "strict", "url": callback, "redirect_uri_type": "authorization"}],
        "outpost_set": [each["name"] for each in now["outposts"].values() if one["pk"] in each["providers"]],
    }


def _brief(now: Json, pk: Any) -> Json | None:
    one = now["providers"].get(str(pk))
    if one is None:
        return None
    full = provider(now, one)
    names = (
        "pk",
        "name",
        "authentication_flow",
        "authorization_flow",
        "invalidation_flow",
        "property_mappings",
        "component",
    )
    more = [name for name in full if name.startswith(("assigned_", "verbose_"))]
    return {name: full[name] for name in (*names, *more, "meta_model_name")}


def application(now: Json, one: Json) -> Json:
    return {
        **one,
        "pbm_uuid": one["pk"],
        "provider_obj": _brief(now, one["provider"]),
        "backchannel_providers": [],
        "backchannel_providers_obj": [],
        "launch_url": one["meta_launch_url"] or None,
        "meta_icon": "",
        "meta_icon_url": None,
        "meta_icon_themed_urls": None,
    }


def group(now: Json, one: Json) -> Json:
    return {
        **one,
        "parents": [],
        "parents_obj": None,
        "users_obj": None,
        "attributes": {},
        "roles": [],
        "roles_obj": [],
        "inherited_roles_obj": None,
        "children": [],
        "children_obj": None,
    }


def user(now: Json, one: Json) -> Json:
    shown = {name: value for name, value in one.items() if name != "password"}
    return {
        **shown,
        "name": one["username"],
        "is_active": True,
        "last_login": None,
        "date_joined": _NOW,
        "is_superuser": is_superuser(now, one["pk"]),
        "groups": [each["pk"] for each in groups_of(now, one["pk"])],
        "groups_obj": None,
        "roles_obj": None,
        "email": "",
        "avatar": "data:,",
        "attributes": {},
        "uid": one["uuid"],
        "path": "users",
        "password_change_date": _NOW,
        "last_updated": _NOW,
    }


def me(now: Json, one: Json) -> Json:
    full = user(now, one)
    names = ("pk", "username", "name", "is_active", "is_superuser", "email", "avatar", "uid", "type")
    groups = [{"name": each["name"], "pk": each["pk"]} for each in groups_of(now, one["pk"])]
    more = {"is_current": True, "groups": groups, "roles": [], "settings": {}, "system_permissions": []}
    return {name: full[name] for name in names} | more


def token(now: Json, one: Json) -> Json:
    shown = {name: value for name, value in one.items() if name != "key"}
    more = {"managed": None, "description": "", "expires": None, "expiring": False}
    return {**shown, "user_obj": user(now, now["users"][str(one["user"])]), **more}


def role(now: Json, one: Json) -> Json:
    return {"pk": one["pk"], "name": one["name"]}


def binding(now: Json, one: Json) -> Json:
    members = now["groups"].get(one["group"] or "")
    brief = members and {name: members[name] for name in ("pk", "num_pk", "name", "is_superuser")} | {
        "attributes": {}
    }
    return {
        **one,
        "policy_obj": None,
        "group_obj": brief,
        "user_obj": None,
        "expires": None,
        "expiring": False,
    }


def outpost(now: Json, one: Json) -> Json:
    return {
        **one,
        "providers_obj": [brief for pk in one["providers"] if (brief := _brief(now, pk))],
        "service_connection_obj": None,
        "refresh_interval_s": 300,
        "token_identifier": f"ak-outpost-{one['pk']}-api",
    }


def health() -> Json:
    return {
        "uid": "embedded",
        "last_seen": datetime.datetime.now(datetime.UTC).isoformat(),
        "version": "2026.8.5",
        "golang_version": "",
        "openssl_enabled": True,
        "openssl_version": "",
        "fips_enabled": None,
        "version_should": "2026.8.5",
        "version_outdated": False,
        "build_hash": "",
        "build_hash_should": "",
        "hostname": "authentik",
    }


def host_of(url: str) -> str:
    """Host and port, as a browser writes them into the Host header."""
    return urlsplit(url).netloc.lower()
