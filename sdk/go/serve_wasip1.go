package keyrail

import (
	"log/slog"

	"github.com/keyrail/keyrail/sdk/go/internal/contract"
	"github.com/keyrail/keyrail/sdk/go/internal/guest"
)

// What a library logs goes to the host's log as well, unless the handler has another logger.
func init() { slog.SetDefault(slog.New(&logHandler{host: guest.Host{}})) }

func serve(h Handler) { guest.Serve(contract.NewProgram(h, guest.Host{})) }
