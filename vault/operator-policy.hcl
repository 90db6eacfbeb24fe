# What the operator's token may do, in a Vault of ours and in one of somebody else: vault.setup writes it into ours, an
# administrator of another one does
#   bao secrets enable -path=secret -version=2 kv; bao auth enable approle
#   bao policy write platform-operator vault/operator-policy.hcl
#   bao token create -orphan -policy=platform-operator -period=8760h
# Who may write policies and logins can, by way of them, reach all of this Vault. In one that is shared with others give the
# platform a namespace of its own, or write the stacks' policies and roles yourself and allow only "read" on both: setup then
# finds them as they should be and writes nothing.

# The values.
path "secret/data/platform/*"     { capabilities = ["create", "read", "update"] }
path "secret/metadata/platform/*" { capabilities = ["read", "list"] }

# One policy and one role for each stack of each environment: platform-<env>.<stack>
path "sys/policies/acl/platform-*"       { capabilities = ["create", "read", "update", "delete"] }
path "auth/approle/role/platform-*"      { capabilities = ["create", "read", "update", "delete", "list"] }

# Not this policy itself.
path "sys/policies/acl/platform-operator" { capabilities = ["read"] }

# Its own token (Vault's default policy says so too, where a token has it).
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
