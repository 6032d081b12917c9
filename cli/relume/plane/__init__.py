"""One plane on this machine: serving, eventing and the runtime, composed."""
