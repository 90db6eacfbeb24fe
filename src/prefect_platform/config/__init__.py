"""The configuration: settings, stacks, and the rules between them. Pure; knows no target."""
