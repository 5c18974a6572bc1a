"""The no-network quickstart study and the tiny pretrained model it runs on."""
