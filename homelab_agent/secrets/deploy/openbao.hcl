# OpenBao 2.7 on one home server, for homelab-agent. `homelab-agent secrets bootstrap` puts it to /etc/openbao, with
# other paths where it is told so; by hand it works as it is, beside openbao.service and agent.policy.hcl.
# Reference: https://openbao.org/docs/configuration/

storage "raft" {
  path    = "/var/lib/openbao/raft"
  node_id = "homelab"

  # There is one node: nobody's heartbeat is to be awaited. It is unsealed after 2 s instead of 7 s.
  performance_multiplier = 1
}

cluster_addr = "http://127.0.0.1:8201"
api_addr     = "http://127.0.0.1:8200"

# For the agent. The mode counts only beside both owners: without them OpenBao ignores it.
listener "unix" {
  address      = "/run/openbao/openbao.sock"
  socket_mode  = "0660"
  socket_user  = "openbao"
  socket_group = "openbao"
}

# For containers and people on this host. It cannot be left out: raft is not unsealed without one.
listener "tcp" {
  address     = "127.0.0.1:8200"
  tls_disable = true
}

# 32 random bytes as 64 hexadecimal digits, without a newline. The id belongs to the key: a new key, a new id.
seal "static" {
  current_key_id = "1"
  current_key    = "file:///run/credentials/openbao.service/unseal-key"
}

# Standard output is the journal: who read what and when, tokens and values as keyed hashes.
audit "file" "journal" {
  options {
    file_path = "stdout"
  }
}

# A secret id has 256 random bits, so there is nothing to guess. With the lock-out, whoever knows a role's id could keep
# it from logging in, by five wrong secret ids every 15 minutes.
user_lockout "approle" {
  disable_lockout = true
}

# What a new store begins with. It is read once; later changes are made with `bao`, as the operator.
initialize "homelab" {
  request "values" {
    operation = "update"
    path      = "sys/mounts/secret"
    data = {
      type    = "kv"
      options = { version = "2" }
    }
  }

  request "roles" {
    operation = "update"
    path      = "sys/auth/approle"
    data      = { type = "approle" }
  }

  request "agent-policy" {
    operation = "update"
    path      = "sys/policies/acl/homelab-agent"
    data = {
      policy = {
        eval_source = "file"
        eval_type   = "string"
        path        = "/etc/openbao/agent.policy.hcl"
      }
    }
  }

  # No address is bound to it: over the unix socket there is none, and every request would be refused.
  request "agent" {
    operation = "update"
    path      = "auth/approle/role/homelab-agent"
    data = {
      role_id                 = "homelab-agent"
      token_policies          = ["homelab-agent"]
      token_no_default_policy = true
      token_ttl               = "20m"
      token_max_ttl           = "24h"
    }
  }

  # The root token ends with this initialisation. The operator may do everything, for an hour at a time.
  request "operator-policy" {
    operation = "update"
    path      = "sys/policies/acl/operator"
    data = {
      policy = <<EOT
path "*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list", "scan", "sudo"]
}
EOT
    }
  }

  request "operator" {
    operation = "update"
    path      = "auth/approle/role/operator"
    data = {
      role_id        = "operator"
      token_policies = ["operator"]
      token_ttl      = "1h"
      token_max_ttl  = "1h"
    }
  }

  request "operator-secret-id" {
    operation = "update"
    path      = "auth/approle/role/operator/custom-secret-id"
    data = {
      secret_id = {
        eval_source = "file"
        eval_type   = "string"
        path        = "/run/credentials/openbao.service/operator-secret-id"
      }
    }
  }

  # The last: by whether it lets in, `secrets bootstrap` tells a whole beginning from one that was cut short.
  request "agent-secret-id" {
    operation = "update"
    path      = "auth/approle/role/homelab-agent/custom-secret-id"
    data = {
      secret_id = {
        eval_source = "file"
        eval_type   = "string"
        path        = "/run/credentials/openbao.service/agent-secret-id"
      }
    }
  }
}
