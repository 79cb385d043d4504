# Several instances of the rendezvous as one service, with what they share: a store in Memorystore and a key in Secret Manager. One relay.
# The workers' network (Cloud NAT) is that of deploy/network.sh.

locals {
  services = ["compute", "redis", "run", "secretmanager"]
  # From where Cloud Run's front end reaches a container: nobody but the platform can use these.
  trusted_proxy = "169.254.0.0/16,127.0.0.0/8"
}

resource "google_project_service" "needed" {
  for_each           = toset(local.services)
  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false
}

resource "google_compute_network" "inside" {
  name                    = "rendezvous"
  auto_create_subnetworks = false
  depends_on              = [google_project_service.needed]
}

resource "google_compute_subnetwork" "inside" {
  name                     = "rendezvous"
  network                  = google_compute_network.inside.id
  region                   = var.region
  ip_cidr_range            = var.subnet_range
  private_ip_google_access = true
}

resource "google_redis_instance" "store" {
  name               = "rendezvous-store"
  region             = var.region
  tier               = var.store_tier
  memory_size_gb     = 1
  redis_version      = "REDIS_7_2"
  authorized_network = google_compute_network.inside.id
}

# It stands in the state as well: keep that as secret as the key.
resource "random_password" "relay_key" {
  length  = 64
  special = false
}

resource "google_secret_manager_secret" "relay_key" {
  secret_id = "rendezvous-relay-key"
  replication {
    auto {}
  }
  depends_on = [google_project_service.needed]
}

resource "google_secret_manager_secret_version" "relay_key" {
  secret      = google_secret_manager_secret.relay_key.id
  secret_data = random_password.relay_key.result
}

resource "google_service_account" "runtime" {
  account_id   = "rendezvous-runtime"
  display_name = "holepunch rendezvous and relay"
}

resource "google_secret_manager_secret_iam_member" "runtime" {
  secret_id = google_secret_manager_secret.relay_key.id
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${google_service_account.runtime.email}"
}

# One instance: the two workers of a session have to meet in one.
resource "google_cloud_run_v2_service" "relay" {
  name     = "relay-service"
  location = var.region
  ingress  = "INGRESS_TRAFFIC_ALL"

  template {
    service_account                  = google_service_account.runtime.email
    timeout                          = "3600s"
    max_instance_request_concurrency = 1000
    scaling {
      min_instance_count = 1
      max_instance_count = 1
    }
    containers {
      image   = var.image
      command = ["/usr/local/bin/holepunch"]
      args    = ["relay"]
      resources {
        cpu_idle = false
        limits   = { cpu = "1", memory = "512Mi" }
      }
      ports {
        container_port = 8080
      }
      env {
        name  = "TRUSTED_PROXY"
        value = local.trusted_proxy
      }
      env {
        name  = "LOG_FORMAT"
        value = "json"
      }
      env {
        name = "RELAY_KEY"
        value_source {
          secret_key_ref {
            secret  = google_secret_manager_secret.relay_key.secret_id
            version = google_secret_manager_secret_version.relay_key.version
          }
        }
      }
    }
  }
  depends_on = [google_secret_manager_secret_iam_member.runtime]
}

resource "google_cloud_run_v2_service" "rendezvous" {
  name     = "rendezvous-service"
  location = var.region
  ingress  = "INGRESS_TRAFFIC_ALL"

  template {
    service_account = google_service_account.runtime.email
    # A WebSocket is one request for as long as it lives.
    timeout                          = "3600s"
    max_instance_request_concurrency = 1000
    scaling {
      min_instance_count = var.instances_min
      max_instance_count = var.instances_max
    }
    vpc_access {
      egress = "PRIVATE_RANGES_ONLY"
      network_interfaces {
        network    = google_compute_network.inside.id
        subnetwork = google_compute_subnetwork.inside.id
      }
    }
    containers {
      image = var.image
      resources {
        cpu_idle = false
        limits   = { cpu = "1", memory = "512Mi" }
      }
      ports {
        container_port = 8080
      }
      startup_probe {
        http_get {
          path = "/readyz"
        }
        period_seconds    = 2
        failure_threshold = 30
      }
      liveness_probe {
        http_get {
          path = "/healthz"
        }
      }
      # No UDP reaches a container there.
      env {
        name  = "STUN_LISTEN"
        value = "none"
      }
      env {
        name  = "TRUSTED_PROXY"
        value = local.trusted_proxy
      }
      env {
        name  = "LOG_FORMAT"
        value = "json"
      }
      # One that is empty counts as not set.
      env {
        name  = "HOLEPUNCH_PUBLIC_HOST"
        value = join(",", var.public_hosts)
      }
      env {
        name  = "STORE"
        value = "redis://${google_redis_instance.store.host}:${google_redis_instance.store.port}"
      }
      env {
        name  = "NO_RELAY"
        value = "true"
      }
      env {
        name  = "RELAY_URL"
        value = google_cloud_run_v2_service.relay.uri
      }
      env {
        name = "RELAY_KEY"
        value_source {
          secret_key_ref {
            secret  = google_secret_manager_secret.relay_key.secret_id
            version = google_secret_manager_secret_version.relay_key.version
          }
        }
      }
    }
  }
  depends_on = [google_secret_manager_secret_iam_member.runtime]
}

# Workers have no Google account.
resource "google_cloud_run_v2_service_iam_member" "everybody" {
  for_each = {
    rendezvous = google_cloud_run_v2_service.rendezvous.name
    relay      = google_cloud_run_v2_service.relay.name
  }
  name     = each.value
  location = var.region
  role     = "roles/run.invoker"
  member   = "allUsers"
}
