//go:build !wasip1

package keyrail

// On its own machine a handler is tested, and nobody calls what it registers.
func serve(Handler) {}
