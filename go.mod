module github.com/cbagent/cbagent

go 1.26
