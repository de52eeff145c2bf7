"""The commands of the `featurestore` program: parse, call, print."""
