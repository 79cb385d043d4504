output "rendezvous_url" {
  description = "What workers are given as RENDEZVOUS_SERVICE_URL."
  value       = google_cloud_run_v2_service.rendezvous.uri
}

output "relay_url" {
  description = "Where links without a direct path are carried."
  value       = google_cloud_run_v2_service.relay.uri
}
