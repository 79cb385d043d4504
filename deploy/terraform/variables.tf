variable "project" {
  description = "The Google Cloud project. It has no default: it would be somebody's."
  type        = string
}

variable "region" {
  description = "Where everything is."
  type        = string
  default     = "us-central1"
}

variable "image" {
  description = "The image of deploy/Dockerfile.rendezvous, as deploy/images.sh pushes it."
  type        = string
}

variable "subnet_range" {
  description = "Addresses for Cloud Run, which takes them 16 at a time: a /26 or larger."
  type        = string
  default     = "10.9.0.0/24"
}

variable "instances_min" {
  description = "Fewest instances of the rendezvous."
  type        = number
  default     = 2
}

variable "instances_max" {
  description = "Most instances of the rendezvous. Each takes 1000 workers."
  type        = number
  default     = 10
}

variable "store_tier" {
  description = "STANDARD_HA, or BASIC: nothing of what is stored has to outlive a failure, but nobody new is paired meanwhile."
  type        = string
  default     = "STANDARD_HA"
}

variable "public_hosts" {
  description = "Names of the rendezvous in its workers' URLs, where it has some of its own."
  type        = list(string)
  default     = []
}
