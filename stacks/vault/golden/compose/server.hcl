# One node. Only the agents' network reaches it, and the operator through the host: no port is published.
ui           = false
api_addr     = "http://platform-vault:8200"
cluster_addr = "https://127.0.0.1:8201"
# A token lives no longer than this between two renewals; with the default of 32 days a quiet month would lock the operator out.
max_lease_ttl = "8760h"

# The file backend is deprecated (2.6). Raft with one voter needs no other node; its defaults wait for one.
storage "raft" {
  path                   = "/openbao/data"
  node_id                = "platform"
  performance_multiplier = 1
}

listener "tcp" {
  address         = "0.0.0.0:8200"
  cluster_address = "127.0.0.1:8201"
  tls_disable     = true
  # The recovery keys alone must make a new root token: since 2.5.3 OpenBao also asks for a token with special rights, and the keys are
  # for the day when there is none. Whoever reaches this port can disturb such a recovery, and do nothing without the keys.
  disable_unauthed_generate_root_endpoints = false
}

# Made by start.sh at the first start. Whoever has this key and the data has the secrets: back them up apart.
seal "static" {
  current_key_id = "platform-1"
  current_key    = "file:///openbao/seal/key"
}

# OpenBao 2.7 takes audit devices from here alone. Values are hashed; the log goes to `docker logs`, which rotates it.
audit "file" "stdout" {
  description = "every request, to the container's log"
  options {
    file_path = "stdout"
  }
}
