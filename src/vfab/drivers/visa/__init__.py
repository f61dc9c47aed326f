"""Any SCPI instrument behind VISA: VXI-11, HiSLIP, GPIB, USBTMC by libusb."""
