// Swagger UI with what suits this API. A key that is entered is kept in memory only.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  docExpansion: "list",
  filter: true,
  persistAuthorization: false,
  requestSnippetsEnabled: false,
  tryItOutEnabled: true,
  validatorUrl: null,
});
