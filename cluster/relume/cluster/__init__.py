"""What a cluster makes of the manifests: admission, claims, rendering, applying, diagnosis."""
