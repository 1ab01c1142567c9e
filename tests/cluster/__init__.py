"""The product on a real Kubernetes cluster: see README.md beside this file."""
