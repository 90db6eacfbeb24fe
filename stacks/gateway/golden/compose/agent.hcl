# The agent beside a stack: logs in by AppRole, keeps its token alive and renders the stack's secrets to one file.
# Tried with OpenBao 2.7.2: see tests/vault/test_agent.py for what it survives.
vault {
  address = "http://platform-vault:8200"
}

auto_auth {
  method "approle" {
    # However long Vault was away, the agent retries within this time.
    max_backoff = "30s"
    config = {
      role_id_file_path   = "/vault/approle/role-id"
      secret_id_file_path = "/vault/approle/secret-id"
      # The default deletes the file after the first login: the next start of the agent would have none.
      remove_secret_id_file_after_reading = false
    }
  }
}

template_config {
  static_secret_render_interval = "30s"
  # While Vault is away or sealed, the agent retries for ever and the rendered file stays.
  exit_on_retry_failure = false
}

template {
  source               = "/platform/app/secrets.ctmpl"
  destination          = "/vault/secrets/.env"
  perms                = "0400"
  # A value that does not exist yet must not be rendered as "<no value>".
  error_on_missing_key = true
  # The old secrets would stay beside the new ones.
  backup               = false
}
