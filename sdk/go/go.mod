module github.com/keyrail/keyrail/sdk/go

go 1.24
