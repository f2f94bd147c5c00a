package main

// version is the version of the build; scripts/build.sh sets it.
var version = "unknown"
