"""AxiDraw and other plotters with an EiBotBoard: plugin, driver and simulator."""
