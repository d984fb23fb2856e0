"""The pipeline on machines of a cluster: each stage is a job, which an engine that exists places."""
