package operate

import "runtime"

// goVersion is what built the test and the agent.
var goVersion = runtime.Version()
