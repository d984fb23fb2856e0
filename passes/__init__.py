"""The Olive passes that Olive lacks, registered by `passes/olive.json`."""
