"""How much memory a model needs on each device, and which DeviceClass has that much."""
