"""A judge model: any model behind the OpenAI API, asked to judge what another one wrote."""
