package main

// version is what the build names itself; scripts/build.sh sets it.
var version = "unknown"
