module github.com/keyrail/keyrail/tests/conformance/go

go 1.24

require github.com/keyrail/keyrail/sdk/go v0.0.0

replace github.com/keyrail/keyrail/sdk/go => ../../../sdk/go
