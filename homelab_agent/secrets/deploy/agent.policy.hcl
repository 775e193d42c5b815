# All that homelab-agent may do in OpenBao; whatever is not named is refused. Changed, it is put in force with
#   bao policy write homelab-agent /etc/openbao/agent.policy.hcl

# The values, and which versions of them there are.
path "secret/data/homelab/*" {
  capabilities = ["read"]
}
path "secret/metadata/homelab/*" {
  capabilities = ["read", "list"]
}

# A snapshot of the whole store, still encrypted. Without this path none can be taken.
path "sys/storage/raft/snapshot" {
  capabilities = ["read"]
}

# Its own token: whether it lives, longer, no longer.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
